"""What people touch: the command line now, the terminal and graphical interfaces later. They know the client only."""
