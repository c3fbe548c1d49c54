"""Everything of towline that does not know Celery: it could serve another program."""
