"""What is sent when, decided before the run from one seed: equal in each run of a scenario."""
