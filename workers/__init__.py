"""The running application: the Celery app, its pools and what starts them."""
