#!/bin/sh
# Lives for a while, then dies in one of several ways; Reeve keeps the record of each.
life=$(awk -v seed="$$" 'BEGIN { srand(seed); print 5 + int(rand() * 20) }')
echo "this time I live for $life s"
sleep "$life"
case $((life % 4)) in
0) echo "out of ideas" && exit 3 ;;
1) echo "segmentation fault, as it were" && kill -s SEGV $$ ;;
2) echo "killed by my own hand" && kill -s KILL $$ ;;
*) echo "leaving an orphan behind" && (sleep 600 &) && exit 1 ;;
esac
