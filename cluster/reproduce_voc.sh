#!/usr/bin/env bash
# From an empty GPU host to the paper's table for PascalVOC: reproduce_voc.sh [--small]. All of it is in reproduce.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/reproduce.sh" voc "$@"
