"""The ground floor: the facts. Events, how they are written, and the logs that keep them.

`model` says what can happen, `codec` turns a payload into bytes and back, `record` puts it in its
envelope, `log` is the contract that every log keeps, and `sqlite`, `jsonl`, `memory` and `noop` are
the logs. `recorder` writes one session, `liveness` says whose writer is still alive.

Nothing here imports the floors above.
"""
