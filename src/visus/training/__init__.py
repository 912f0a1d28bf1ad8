"""What trains: regimes, recipes and loops for the networks of models/, and what is measured on the way."""
