"""Where the time of a call goes: the operators of each runtime, as its own profiler reports them."""
