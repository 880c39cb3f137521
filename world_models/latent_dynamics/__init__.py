"""Several levels of latent dynamics, each slower and more abstract than the one below."""
