/* The table of verbs, and where people who come from other tools find theirs. */
#include "ctl.h"

#include "base/mem.h"

#include <string.h>

#define ANY    ((size_t)-1)
#define CHANGE (OPT(NO_WAIT) | OPT(TIMEOUT))

const struct verb verbs[] = {
	{"check",	   "[FILE]",		     "say what is wrong in a configuration file",			  OPT(OFFLINE),				0, 1,
	  cmd_check																		      },
	{ "doctor",   "",			"what the system gives against what the configuration needs",    0,					 0, 0,
	  cmd_doctor																		     },
	{ "dump",	  "[FILE]",		    "the configuration in force, or of FILE, complete and in order",
	  OPT(OFFLINE),																0, 1,   cmd_dump  },
	{ "events",   "[TARGET…]",		 "what happened to workers",
	  OPT(FOLLOW) | OPT(SINCE) | OPT(TIMEOUT),												     0, ANY, cmd_events},
	{ "help",	  "[VERB]",		    "this",							  0,				       0, 1,   cmd_help  },
	{ "kill",	  "TARGET…",	     "send a signal",						 OPT(SIGNAL) | OPT(TO) | OPT(TIMEOUT), 1, ANY,
	  cmd_kill																		       },
	{ "logs",	  "[TARGET…]",	       "the last lines that workers wrote",
	  OPT(FOLLOW) | OPT(LINES) | OPT(SINCE) | OPT(STREAM),											 0, ANY, cmd_logs	},
	{ "plan",	  "[FILE]",		    "what a reload would do, and why",			       OPT(OFFLINE) | OPT(TIMEOUT),	    0, 1,
	  cmd_plan																		       },
	{ "ready",	   "[TARGET…]",		"true if all is ready",						OPT(TIMEOUT),			      0, ANY, cmd_ready },
	{ "reload",   "[GROUP…]",		"read the configuration again; with GROUP: renew its workers",
	  CHANGE | OPT(DRY_RUN),														       0, ANY, cmd_reload},
	{ "reset",	   "TARGET…",	      "leave quarantine, zero the counters",			     OPT(TIMEOUT),			   1, ANY,
	  cmd_reset																		      },
	{ "restart",  "TARGET…",		"stop and start, or start what is stopped",			    CHANGE,				    1, ANY,
	  cmd_restart																		    },
	{ "scale",	   "GROUP N",		      "change the number of workers",				      CHANGE,				      2, 2,   cmd_scale },
	{ "show",	  "TARGET…",	     "everything about a worker",					  OPT(MEMORY) | OPT(TIMEOUT),	      1, ANY,
	  cmd_show																		       },
	{ "shutdown", "",			  "end the daemon and all it supervises",			  CHANGE | OPT(COLD),		      0, 0,
	  cmd_shutdown																		   },
	{ "start",	   "TARGET…",	      "start, also out of quarantine",				       CHANGE,			       1, ANY, cmd_start },
	{ "status",   "[TARGET…]",		 "groups, and the workers that are not well",
	  OPT(WATCH) | OPT(ALL) | OPT(FAILED) | OPT(MEMORY) | OPT(TIMEOUT),									    0, ANY, cmd_status},
	{ "stop",	  "TARGET…",	     "stop, until the whole tree is gone",				   CHANGE | OPT(COLD),		       1, ANY,
	  cmd_stop																		       },
	{ "tree",	  "[TARGET…]",	       "processes; with --graph the order of groups",
	  OPT(MEMORY) | OPT(GRAPH) | OPT(TIMEOUT),												     0, ANY, cmd_tree  },
	{ "version",  "",			 "versions of reevectl and of the daemon",			   OPT(TIMEOUT),			 0, 0,
	  cmd_version																		    },
	{ "wait",	  "TARGET… --for STATE", "wait until the workers are in a state",
	  OPT(FOR) | OPT(TIMEOUT),														     1, ANY, cmd_wait  },
};
const size_t n_verbs = ARRAY_LEN(verbs);

static const struct {
	const char *theirs, *ours;
} pointers[] = {
	{"add",		 "reload"	  },
	{ "avail",	   "status"   },
	{ "cat",		 "dump"	},
	{ "config",	    "dump"	   },
	{ "daemon-reload", "reload"   },
	{ "describe",      "show"     },
	{ "down",	  "stop"	 },
	{ "exit",	  "shutdown" },
	{ "info",	  "show"	 },
	{ "inspect",	     "show"	    },
	{ "is-active",     "ready"    },
	{ "journal",	     "logs"	    },
	{ "list",	  "status"   },
	{ "log",		 "logs"	},
	{ "ls",		"status"	 },
	{ "monit",	   "status -w"},
	{ "pid",		 "show"	},
	{ "ps",		"status"	 },
	{ "quit",	  "shutdown" },
	{ "reread",	    "plan"	   },
	{ "signal",	    "kill -s"  },
	{ "tail",	  "logs"	 },
	{ "terminate",     "stop"     },
	{ "test",	  "check"	  },
	{ "up",		"start"	},
	{ "update",	    "reload"   },
	{ "validate",      "check"    },
	{ "watch",	   "status -w"},
};

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < n_verbs; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

const char *verb_pointer(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(pointers); i++)
		if (strcmp(pointers[i].theirs, name) == 0)
			return pointers[i].ours;
	return NULL;
}
