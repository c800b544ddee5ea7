package postgres

import (
	"slices"
	"strconv"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
)

// known lists the parameters of an address that pgx or the server accepts. All
// others are dropped: the server would refuse the connection.
var known = []string{
	"host", "port", "dbname", "database", "user", "password",
	"sslmode", "sslcert", "sslkey", "sslrootcert", "sslpassword", "sslsni", "sslnegotiation", "sslcertmode",
	"target_session_attrs", "application_name", "connect_timeout", "channel_binding", "require_auth",
	"options", "timezone", "search_path", "statement_timeout", "lock_timeout", "client_encoding",
	"krbsrvname", "krbspn", "min_protocol_version", "max_protocol_version", "passfile",
}

// understood lists the parameters that a keyword/value string may have besides: those of
// libpq that pgx does not know, and those of other clients. Any other word there is
// part of a password, or of an address in another form.
var understood = []string{
	"hostaddr", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "load_balance_hosts",
	"gssencmode", "gsslib", "gssdelegation", "requirepeer", "replication", "fallback_application_name", "service", "servicefile",
	"sslcompression", "sslcrl", "sslcrldir", "sslkeylogfile", "ssl_min_protocol_version", "ssl_max_protocol_version", "scram_client_key", "scram_server_key",
	"schema", "connection_limit", "pool_timeout", "socket_timeout", "pgbouncer", "statement_cache_size", "sslaccept", "sslidentity", // Prisma
	"max_connection_lifetime", "max_idle_connection_lifetime", "single_use_connections", // Prisma
	"ssl", "uselibpqcompat", // node-postgres
	"supa", "workaround", // consoles
	"currentSchema", "prepareThreshold", // JDBC
	"binary_parameters", "default_query_exec_mode", "statement_cache_mode", "statement_cache_capacity", "description_cache_capacity", // Go
	"pool_max_conns", "pool_min_conns", "pool_max_conn_lifetime", "pool_max_conn_idle_time", "pool_health_check_period", // Go
}

// fromEnvironment holds the settings that pgx would take from PG* variables in
// Caddy's environment, with their defaults.
var fromEnvironment = map[string]string{
	"host": "", "port": "", "database": "", "user": "", "password": "", "passfile": "",
	"application_name": applicationName, "connect_timeout": "",
	"sslmode": "", "sslkey": "", "sslcert": "", "sslcertmode": "allow", "sslsni": "", "sslrootcert": "",
	"sslpassword": "", "sslnegotiation": "", "target_session_attrs": "any", "timezone": "", "options": "",
	"min_protocol_version": "", "max_protocol_version": "", "channel_binding": "", "require_auth": "",
}

// translate turns the parameters of other clients into those of pgx.
func translate(s settings) (address, error) {
	if s["service"] != "" {
		return address{}, errService
	}
	setDefault(s, "host", s["hostaddr"])
	if err := s.check(); err != nil {
		return address{}, err
	}
	a := address{settings: s, schema: s["schema"], pooled: s["pgbouncer"] == "true"}
	if limit, err := strconv.Atoi(s["connection_limit"]); err == nil && limit > 0 {
		a.limit = limit
	}
	switch s["ssl"] { // node-postgres
	case "true", "1":
		setDefault(s, "sslmode", "require")
	case "false", "0":
		setDefault(s, "sslmode", "disable")
	}
	switch {
	case s["sslmode"] == "no-verify": // node-postgres
		s["sslmode"] = "require"
	case s["sslaccept"] == "strict" && (s["sslmode"] == "" || s["sslmode"] == "require"): // Prisma
		s["sslmode"] = "verify-full"
	}
	if s["sslcert"] != "" && s["sslkey"] == "" { // Prisma means the certificate authority of the server
		setDefault(s, "sslrootcert", s["sslcert"])
		delete(s, "sslcert")
	}
	setDefault(s, "search_path", s["currentSchema"]) // JDBC
	if timeout, present := s["connect_timeout"]; present {
		s["connect_timeout"] = strconv.Itoa(wholeSeconds(timeout))
	}
	for name := range s {
		if !slices.Contains(known, name) {
			delete(s, name)
		}
	}
	return a, nil
}

func setDefault(s settings, name, value string) {
	if s[name] == "" {
		s[name] = value
	}
}

// wholeSeconds parses a timeout such as 5 or 10s. Anything else stands for
// deadline.Connect, because an attempt has to end.
func wholeSeconds(text string) int {
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return seconds
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return max(1, int(d.Seconds()))
	}
	return int(deadline.Connect.Seconds())
}
