"""What is done to a service on purpose during a run, and what came of it.

`timeline` makes the scenario's faults at their times, by `processes`, `proxy` and `pods`; `alerts`
looks whether anybody was told; `seen` says from the records what each fault did.
"""
