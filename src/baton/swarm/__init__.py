"""The swarm in Redis: which agents there are, and which are alive."""
