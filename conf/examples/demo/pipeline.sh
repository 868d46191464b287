#!/bin/sh
# A shell, a loop, and two filters: four processes and more that have to end together.
while :; do
	date +%s
	sleep 2
done | awk '{ print $1 % 60; fflush() }' | while read -r second; do
	echo "second $second of the minute"
done
