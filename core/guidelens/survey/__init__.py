"""Blinded human studies of a run's pictures: design, storage, the web pages, statistics, exchange of files."""
