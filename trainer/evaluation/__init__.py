"""Localisation metrics under every protocol of the field, as tables and reports."""
