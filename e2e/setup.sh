#!/bin/sh
# Installs what the end-to-end tests need beside Go: kcat, a JDK (17 or newer), Maven and PostgreSQL. Debian and Ubuntu only;
# elsewhere it says what is missing.
set -eu

missing=""
command -v kcat >/dev/null 2>&1 || missing="$missing kcat"
command -v javac >/dev/null 2>&1 || missing="$missing openjdk-17-jdk-headless"
command -v mvn >/dev/null 2>&1 || missing="$missing maven"
# Debian keeps PostgreSQL's server programs out of PATH.
set -- /usr/lib/postgresql/*/bin/initdb
[ -e "$1" ] || command -v initdb >/dev/null 2>&1 || missing="$missing postgresql"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "e2e/setup.sh: install by hand:$missing" >&2
	exit 1
fi
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of package names
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing
