"""Clients of model APIs: requests, retries, budget, prices and errors."""
