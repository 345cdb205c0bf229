"""What is counted, how processes add their counts up in Redis, and which series there are."""
