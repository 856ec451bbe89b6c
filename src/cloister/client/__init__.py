"""The async SDK: `Client.open(profile)` and typed events; files, sockets and clocks of a device live here."""
