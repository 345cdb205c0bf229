"""What happens to agents, nodes and contexts as time passes."""
