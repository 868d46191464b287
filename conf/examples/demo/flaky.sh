#!/bin/sh
# Lives for a while, then dies, each time in another way; Reeve keeps the record of each.
life=$((5 + ($$ % 16)))
echo "this time I live for $life s"
sleep "$life"
case $((REEVE_INCARNATION % 4)) in
0) echo "out of ideas" && exit 3 ;;
1) echo "a segmentation fault, as it were" && kill -s SEGV $$ ;;
2) echo "leaving an orphan behind" && (sleep 600 &) && exit 1 ;;
*) echo "killed by my own hand" && kill -s KILL $$ ;;
esac
