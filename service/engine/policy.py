"""The numbers by which the engine shares the cores: each with its unit, and where it comes from.

A quoted question begins the heading of an entry in docs/log/serving.md; "assumption": the number was never measured.
"""

# Which unit is next.
STRETCH = 10.0  # a unit is due at its job's arrival plus this many times the job's cost up to there; assumption
SIMILAR_MS = 5.0
"""Jobs whose estimates differ by less than this many milliseconds of one core count as equally long when a newcomer's
wait is estimated. "What does twice the load do?", for the time that the exact sum took; the bound is an assumption."""

# Short units where every worker is within a long one. "Does the engine keep its bars?" has the fairness; the two bounds
# are assumptions.
LONG_MS = 10.0  # milliseconds of one core: a unit that takes this long may hold up others
SHORT_MS = 5.0  # milliseconds of one core: a job up to this long need not wait for units that are long

# Inline runs. "Do inline runs pay?"
LISTEN_TURNS = 2  # of uvloop's event loop: in the first it reads what has come, in the second those requests begin

# The threads of lone runs: one, or all that pay. "Who runs what?" has the gain; the numbers are assumptions.
LONE_TRIAL = 16  # one lone run in so many takes the number of threads that seems the slower
LONE_WEIGHT = 0.2  # share of the newest run in the pace of a number of threads
LONE_MOST = 2.0  # times its pace: a run that took longer was held up by something else, and counts for no more
LONE_MARGIN = 0.95  # of the time of the threads that are chosen: the others must take less to be chosen

# Callers.
WATCH_FROM_MS = 5.0
"""Callers are watched for disconnects only from this many milliseconds of queued work on; with less, the answer comes
before watching pays off. "What does the event loop take?" has the cost of a watch; the bound is an assumption."""

# Runs that hang.
MAX_RUN_MS = 10_000.0  # milliseconds of one unit; a window of 384 tokens takes a thousandth of it; assumption
MAX_OVERRUN = 10.0  # times its estimate that a unit may run, if that is longer: windows of 8,192 tokens; assumption
CHECK_RUNS_S = 1.0  # seconds between two looks at what runs; assumption

# Estimates. Self-tuning replaces the line of a window by that of the model on this machine.
FIXED_MS = 0.3  # milliseconds of a window on one core, whatever its length: 3 layers of 384 on M1; assumption elsewhere
MS_PER_TOKEN = 0.035  # milliseconds of one core for each token of a window; likewise
ATTENTION_TOKENS = 2048  # so many more tokens than a usual window double the cost of each; assumption
CHARACTERS_PER_TOKEN = 4  # before the tokens are known; assumption, for English
ENCODE_MS_PER_TOKEN = 0.0015  # milliseconds of one core; assumption (0.18 for 128 tokens, no entry); decoding likewise
PACE_WEIGHT = 0.05  # share of the newest run in the pace of a model; assumption
