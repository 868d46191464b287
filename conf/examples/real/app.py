"""The smallest WSGI application that shows who answers."""
import os


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    text = f"{os.environ.get('GREETING', 'hello')} from gunicorn in {os.environ['REEVE_WORKER']}\n"
    return [text.encode()]
