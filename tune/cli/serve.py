"""`--serve NAME`: a page to click keypoints on two pictures and see their matches."""

from __future__ import annotations

import argparse
import json
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.data.store.present import OBJECTS_FILE, require_data_set
from nmt.errors import UserError
from nmt.io.address import is_address
from nmt.io.user_files import is_file
from tune.cli.configuration import decode_overrides
from tune.cli.flags import DECODE, RESULTS, STORAGE, flag, switch, whole_number
from tune.cli.job import Job
from tune.cli.runs import find_checkpoint

if TYPE_CHECKING:
    from nmt.config import Config
    from nmt.data.store.objects import ObjectStore

HOST, PORT, HIGHEST_PORT = "127.0.0.1", 8765, 65535


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Load the matcher, print the page's address, and serve it until Ctrl-C."""
    port = PORT if args.port is None else args.port
    if port > HIGHEST_PORT:
        raise UserError(f"--port must be at most {HIGHEST_PORT}, but got {port}")
    decode, checkpoint = decode_overrides(args), find_checkpoint(args)
    if args.data is not None:
        require_data_set(args.data)
    from nmt.inference.serve.server import listen, make_server

    listener = listen(args.host or HOST, port, token=args.token)
    with listener.socket:
        started = time.monotonic()
        from nmt.inference.image_matcher import load_image_matcher
        from nmt.inference.serve.app import Workbench

        matcher = load_image_matcher(checkpoint, overrides=decode)
        workbench = Workbench(matcher, name=args.name, examples=open_examples(args.data, matcher.config))
        server = make_server(workbench, listener)
        print(f"{checkpoint}: loaded in {time.monotonic() - started:.1f} s")
        if args.json:
            print(json.dumps({"url": listener.url}), flush=True)
        else:
            token = "?token=TOKEN, with the token that you gave" if args.token else ""
            print(f"the page: {listener.url}{token} (Ctrl-C ends it)", flush=True)
        if args.open:
            webbrowser.open(listener.url + (f"?token={args.token}" if args.token else ""))
        server.run(sockets=[listener.socket])
    return {"url": listener.url}


def open_examples(data: str | None, config: Config) -> ObjectStore | None:
    """Open the data set that example pairs come from; None if none is given and the run's own is not there."""
    from nmt.data.store.node_copy import local_copy
    from nmt.data.store.objects import ObjectStore

    place = data or f"data/{config.data.name}"
    if data is None and (is_address(place) or not is_file(Path(place) / OBJECTS_FILE)):
        return None
    return ObjectStore.open(local_copy(place))


JOB = Job(
    flag="--serve",
    argument="a search or training below --results, or the path of a best.pt",
    summary="a page in the browser: click keypoints on two pictures, see their matches",
    description=(
        "Serve a page in the browser, for this machine alone: open two pictures, click keypoints, and see matches and "
        "confidences as you drag them. It loads and saves the tables that --prepare and --match read, so it labels "
        "pictures of your own too. Pictures stay in memory. Other machines reach it with --host and --token."
    ),
    examples=("--serve demo", "--serve results/demo-train/best.pt --port 0"),
    flags=(
        flag("--port", f"port of the page (default {PORT}); 0 takes any free one", metavar="N", type=whole_number(0)),
        flag("--host", f"address to listen at (default {HOST}, this machine alone); others need --token", metavar="H"),
        flag("--token", "a secret of at least 16 characters: the page opens once as /?token=TOKEN", metavar="TOKEN"),
        switch("--open", "open the page in the browser"),
        flag(
            "--data",
            "the prepared data set that example pairs come from (default that of the run, if it is there)",
            metavar="DIR",
        ),
        DECODE,
        RESULTS,
        STORAGE,
        switch("--json", "print the address as one line of JSON once the page is there"),
    ),
    run=run,
    interrupted="The page has ended.",
)
