"""Parsers of model responses: answer, spans and expressions from text."""
