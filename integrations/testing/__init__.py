"""For tests, demos and adapter authors: stand-ins of services on real ports, and the contract every adapter keeps."""
