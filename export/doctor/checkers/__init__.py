"""One checker for each kind of fault: a function `check(subject, trials)` that yields findings."""
