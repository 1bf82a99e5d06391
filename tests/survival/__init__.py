"""What the store survives: processes that die, files that are torn, many writers, every way out.

Each `test_*` module does one kind of harm to a store on each kind of file, with real processes, and
checks what is left against what was acknowledged. Every check is a function that takes a `Scale`
and returns `Figures`; pytest calls it at the scale that fits into a minute for the whole package.

    pytest tests/survival                                    30 kills a backend, 16 processes, ...
    LLLM_SURVIVAL_ROUNDS=500 pytest tests/survival           500 kills, 64 processes, ...
    python -m tests.survival                                 the same, and a table of the totals
    python -m tests.survival --rounds 2000 --only kill       more of one

LLLM_SURVIVAL_ROUNDS is the number of kills of each backend; everything else is derived from it,
see `scale`. LLLM_SURVIVAL_SEED repeats what chance decided; a failure names the seed and the round.
What the scheduler decided can't be repeated, so a failure may take some rounds to come again.
"""
