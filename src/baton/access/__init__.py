"""Who may do what in Redis: a deployment's users, their rights, whether a server has them."""
