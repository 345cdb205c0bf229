"""What executes a node: the runner contract and the runners."""
