"""Everything of towline that knows Celery, and the use cases that it carries."""
