"""How this deployment is set up: settings, queues and Celery's options."""
