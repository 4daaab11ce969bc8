"""Routes and data for operators: the dashboard, the page, publishing."""
