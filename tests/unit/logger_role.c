/* The logger role as a program of its own. */
#include "logger/logger.h"

int main(int argc, char **argv)
{
	return logger_main(argc, argv);
}
