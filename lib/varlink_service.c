/* org.varlink.service: what a client may ask any Varlink service about itself. */
#include "lib/varlink_conn.h"

#include "base/mem.h"

#include <string.h>

static const char description[] =
	"# What every Varlink service answers about itself.\n"
	"interface org.varlink.service\n"
	"\n"
	"# Who made it and which interfaces it has.\n"
	"method GetInfo() -> (\n"
	"  vendor: string,\n"
	"  product: string,\n"
	"  version: string,\n"
	"  url: string,\n"
	"  interfaces: []string\n"
	")\n"
	"\n"
	"# The description of one of these interfaces.\n"
	"method GetInterfaceDescription(interface: string) -> (description: string)\n"
	"\n"
	"# There is no such interface.\n"
	"error InterfaceNotFound (interface: string)\n"
	"\n"
	"# The interface has no such method.\n"
	"error MethodNotFound (method: string)\n"
	"\n"
	"# The method is described, but not there (or not in the way it was called).\n"
	"error MethodNotImplemented (method: string)\n"
	"\n"
	"# A parameter is missing, unknown, of the wrong type or out of bounds.\n"
	"error InvalidParameter (parameter: string)\n"
	"\n"
	"# The client is not allowed to call the method.\n"
	"error PermissionDenied ()\n"
	"\n"
	"# The method must be called with `more`.\n"
	"error ExpectedMore ()\n";

static void get_info(struct vl_call *c, const void *args)
{
	const struct vl_server_options *o = &c->conn->server->options;

	vl_reply(c, json_pack("{s:s, s:s, s:s, s:s, s:[s, s]}", "vendor", o->vendor, "product",
			      o->product, "version", o->version, "url", o->url, "interfaces",
			      vl_service_interface.name, o->interface->name));
}

struct description_args {
	const char *interface;
};

static const struct vl_param description_params[] = {
	{ .name = "interface",
	  .type = VL_STRING,
	  .offset = offsetof(struct description_args, interface),
	  .required = true },
	{ .name = NULL },
};

static void get_description(struct vl_call *c, const void *args)
{
	const struct description_args *a = args;
	const struct vl_interface *own = c->conn->server->options.interface;
	const char *text = NULL;

	if (strcmp(a->interface, own->name) == 0)
		text = own->description;
	else if (strcmp(a->interface, vl_service_interface.name) == 0)
		text = description;
	if (text)
		vl_reply(c, json_pack("{s:s}", "description", text));
	else
		vl_error(c, VL_ERROR_INTERFACE_NOT_FOUND,
			 json_pack("{s:s}", "interface", a->interface));
}

static const struct vl_method methods[] = {
	{ "GetInfo", .handle = get_info },
	{ "GetInterfaceDescription", .params = description_params,
	  .args_size = sizeof(struct description_args), .handle = get_description },
};

const struct vl_interface vl_service_interface = {
	.name = "org.varlink.service",
	.description = description,
	.methods = methods,
	.n_methods = ARRAY_LEN(methods),
};
