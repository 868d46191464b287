#!/bin/sh
# Makes what the servers of real.conf expect to find; called with the directory for it.
set -eu
state=$1

install -d -m 755 "$state"
install -d -m 755 "$state/nginx" "$state/nginx/tmp"
install -d -m 700 -o redis -g redis "$state/redis"
install -d -m 700 -o postgres -g postgres "$state/postgres"

# The newest PostgreSQL of those that are installed.
bin=
for candidate in /usr/lib/postgresql/*/bin; do
	if [ -x "$candidate/postgres" ]; then bin=$candidate; fi
done
if [ -z "$bin" ]; then
	echo "no PostgreSQL below /usr/lib/postgresql" >&2
	exit 1
fi
ln -sfn "$bin" "$state/postgres-bin"

if [ ! -s "$state/postgres/PG_VERSION" ]; then
	setpriv --reuid=postgres --regid=postgres --init-groups \
		"$bin/initdb" -D "$state/postgres" --auth=trust --no-sync --no-instructions
fi
