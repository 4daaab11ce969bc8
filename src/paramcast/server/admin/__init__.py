"""Routes for operators: their API and the dashboard; and the page that is served at `/`."""
