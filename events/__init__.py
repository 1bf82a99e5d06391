"""The lowest layer: event types, their encoding, and the logs that store them.

    model, codec             the event types; payloads as bytes
    envelope, digest         the form of a stored event; its digest
    recorder, statements     write the events of a session; write later statements about one
    buffered                 keeps events in memory while a log can't be written
    backend, log             the interface of every log; its public names
    backends/                the logs: SQLite, JSONL, memory; which of them opens a path or URL
    integrity/               verify, repair, backup
    redaction/               removes secrets from payloads before they are written
    values/                  any value of a program as JSON, and back again
    concurrency/             locks, threads, forks, checks whether a writer is alive
    files/                   how files of a store are opened and copied, and who may read them

Nothing here imports the floors above.
"""
