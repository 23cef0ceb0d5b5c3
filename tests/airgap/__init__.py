"""An installation without a network: real images, a real registry, real weights."""
