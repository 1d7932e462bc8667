"""From records to tables and figures. Never trains, never imports torch; knows no experiment by name."""

PAGES = ("preface", "overview", "protocol", "records", "replication")
"""Chapters that show all experiments."""
