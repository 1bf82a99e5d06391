"""The commands that maintain a store: `tag`, `rebuild`, `verify`, `repair`, `doctor`, `backup`."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from pathlib import Path

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import (
    as_tags,
    id_argument,
    json_option,
    open_named,
    store_location,
    store_option,
    zone,
    zone_options,
)
from lllm.events.errors import LogUnavailable
from lllm.terminal_safe import visible


@click.command()
@store_option
@id_argument
@click.argument("tags", nargs=-1, metavar="K=V...", callback=as_tags)
@click.option("--remove", multiple=True, metavar="K", help="Remove a tag; repeat it for several.")
def tag(store: str | None, prefix: str, tags: dict[str, str], remove: tuple[str, ...]) -> None:
    """Add, change or remove tags of a session.

    The session's own events stay as they are; this is an event beside them.
    """
    if not tags and not remove:
        raise click.UsageError("Which tags? Give some as KEY=VALUE, or --remove KEY.")
    from lllm.cli.render.formats import tag_list

    with open_named(store, on_error="raise") as opened:  # what is held would end with this process
        session_id = opened.find_id(prefix)
        try:
            opened.tag(session_id, tags, remove=remove)
        except LogUnavailable as error:
            raise Finding(f"The tags were not written. {error}") from error
        now = opened.load_session_record(session_id).tags
    click.echo(f"{visible(session_id)}  {tag_list(now) or 'no tags'}")


@click.command()
@store_option
@click.option("--check", is_flag=True, help="Replace nothing; compare with what the events say.")
def rebuild(store: str | None, check: bool) -> None:
    """Rebuild lists, tags and costs from the events.

    Others may go on reading and writing meanwhile. With --check, exit code 1 says that something
    differs, and the first difference is printed.
    """
    from lllm.cli.render.progress import progress
    from lllm.cli.render.rebuild import difference_text

    with open_named(store) as opened, progress("Checking" if check else "Rebuilding") as report:
        built = opened.rebuild(check=check, progress=report)
    if not built.views:
        raise Finding("A newer lllm built these rows; upgrade to check them or build them anew.")
    views = ", ".join(built.views)
    if built.difference is not None:
        click.echo(difference_text(built.difference))
        raise Finding("What is stored is not what the events say; `lllm rebuild` mends it.")
    if check:
        click.echo(f"{views}: as the events say, up to position {built.position}.")
    else:
        click.echo(f"{views}: built anew, up to position {built.position}.")


@click.command()
@store_option
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check that the log goes on from this seal; repeat it for several.",
)
@click.option(
    "--key",
    "key_files",
    multiple=True,
    metavar="KEY.pub",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check that seals are signed with this key; repeat it for several.",
)
@json_option
def verify(
    store: str | None, checkpoints: tuple[Path, ...], key_files: tuple[Path, ...], as_json: bool
) -> None:
    """Check that no event was changed or lost.

    Damage is named with its place, and what stands behind it is checked all the same. With seals
    from `lllm seal`, the order of the events and the end of the log are checked, too. Exit code 1
    says that something is wrong, 3 that nothing is, but not all of it can be known.
    """
    if key_files and not checkpoints:
        raise click.UsageError("Keys check the signatures of seals: give --checkpoint, too.")
    from lllm.audit.keys import read_public_key
    from lllm.audit.sealing import check_extension, read_anchor
    from lllm.cli.render.progress import progress
    from lllm.cli.render.verify import show
    from lllm.events.backends import open_log
    from lllm.events.integrity.verify import verify as check

    with (
        closing(open_log(store_location(store), make=False)) as log,
        progress("Verifying") as report,
    ):
        keys = [read_public_key(file) for file in key_files]
        anchors = [read_anchor(file, keys) for file in checkpoints]
        verified = check(log, progress=report)
        extensions = check_extension(log, anchors, report) if anchors else []
    show(verified, as_json, extensions)


@click.command()
@store_option
def repair(store: str | None) -> None:
    """Mend a damaged log, and keep a copy of it.

    For a folder of JSON lines: what an editor, sed, jq or a file transfer made of the lines is put
    back as it was written, checked by the digests. For an SQLite file: a new one is made of what
    its pages hold. A copy of each changed file is kept beside it. Exit code 1 says that something
    is lost, or could not be mended. End the programs that use the store first.
    """
    from lllm.cli.open_store import open_store
    from lllm.cli.render.repair import show
    from lllm.events.backends import open_log
    from lllm.events.integrity.repair import repair as mend

    path = store_location(store)
    with closing(open_log(path, make=False)) as log:
        repaired = mend(log)
    if repaired.mended or repaired.begun:
        with open_store(path) as opened:
            opened.rebuild()  # rows of events that were mended or are lost
    show(repaired)


@click.command()
@store_option
@zone_options
@click.option("--thorough", is_flag=True, help="Read the whole log and check the database's pages.")
@json_option
def doctor(store: str | None, thorough: bool, as_json: bool) -> None:
    """Check the health of the store, and say what to do.

    Size, sessions that run or were interrupted, events that were lost, rows that are behind, room
    on the disk. What is wrong stands first; exit code 1 says that there is a problem. Whether every
    event is what was written is for `lllm verify` to say.
    """
    from lllm.cli.render.doctor import show_checkup
    from lllm.doctor.examine import examine

    with open_named(store) as opened:
        found = examine(opened, thorough=thorough, tz=zone(dt.UTC if as_json else None))
    show_checkup(found, as_json=as_json)


@click.command()
@store_option
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
def backup(store: str | None, destination: Path) -> None:
    """Copy the store to DEST, while others write to it.

    DEST is a path where nothing is yet; what has begun is never found there half done. To restore,
    end the programs that use the store, remove it (an SQLite file with its -wal and -shm beside
    it), and copy the backup to its place.
    """
    from lllm.cli.render.doctor import show_backup
    from lllm.cli.render.progress import progress
    from lllm.events.integrity.backup import back_up

    with open_named(store) as opened, progress("Backing up") as report:
        made = back_up(opened.backend, destination, progress=report)
    show_backup(made)
