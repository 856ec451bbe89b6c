"""Rooms of the classic suites: epochs, members, commits and runs, and sessions that agree in rounds."""
