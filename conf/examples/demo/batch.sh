#!/bin/sh
# Works in units of six seconds and finishes the one at hand when it is asked to stop: the first
# Ctrl-C waits for it, the second does not.
stopping=
trap 'stopping=1; echo "asked to stop: finishing unit $unit first"' TERM
unit=0
while [ -z "$stopping" ]; do
	unit=$((unit + 1))
	step=0
	while [ "$step" -lt 6 ]; do
		step=$((step + 1))
		sleep 1
	done
	echo "unit $unit is done"
done
