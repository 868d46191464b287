/* The interface description as a string; the literal is made from the .varlink file by meson. */
#include "lib/control_description.h"

#pragma GCC diagnostic ignored "-Woverlength-strings"

const char control_description[] =
#include "control_description.inc"
	;
