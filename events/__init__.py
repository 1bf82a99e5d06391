"""The lowest layer: event types, their encoding, and the logs that store them.

    model, codec, envelope   what can happen; payloads as bytes; an event as it is stored
    recorder, statements     who writes one session; what others say of one
    buffered                 events that wait while a log can't be written
    backend, log             the contract of every log; its public names
    backends/                the logs: SQLite, JSONL, memory; which of them opens a path or URL
    integrity/               verify, repair, backup
    redaction/               what is cut out of payloads before they are written
    values/                  any value of a program as JSON, and back again
    concurrency/             locks, threads, forks, who is alive
    files/                   how files of a store are opened and copied, and who may read them

Nothing here imports the floors above.
"""
