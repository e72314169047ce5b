"""Puts this folder on the import path, so that every kind of test can say `from world import ...`.

And tells Hypothesis to draw the same examples each time, however slow the machine is: a check that fails by luck says
nothing about the change that it checked.  `--hypothesis-profile=explore` draws others.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("certain", settings.get_profile("explore"), derandomize=True, database=None, max_examples=50)
settings.load_profile("certain")
