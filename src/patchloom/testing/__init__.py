"""Laws and oracles for our tests and for plug-ins."""
