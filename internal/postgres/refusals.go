package postgres

import (
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// What to do about a connection that is refused.
const (
	adviseSettings = "a pooler refuses a setting of the address, such as search_path, options or statement_timeout: remove it from the address, or use the direct address of the database"
	adviseTLS      = "the database accepts only encrypted connections: add sslmode=require to the address"
	adviseHosts    = "the database lets this role in from other hosts only: add a rule for it to pg_hba.conf, or this host to the allowed addresses (firewall, security group, authorized networks) of the provider"
	adviseRole     = "the database refuses the user: there is no such user; correct it in the address"
	adviseLogin    = "the database refuses the user: run ALTER ROLE … LOGIN for the role"
	advisePassword = "the database refuses the user or the password: check `database` and `listen_database`; in a URL, special characters of the password must be percent-encoded"
	adviseDatabase = "there is no database of this name: correct the name at the end of the address (or dbname=); a reset may be recreating it"
	adviseFull     = "the database accepts no more connections: raise max_connections, or the connection limit of the role or the pooler; each Caddy needs three"
	adviseTenant   = "the pooler of Supabase does not know this user: copy its address from the Connect dialog, where the user is postgres.PROJECT (or ROLE.PROJECT) and the host that of the project's region; or the project is paused"
	adviseQuota    = "the quota of the database's plan is used up: raise it in the provider's console, or wait for the next billing period"
	adviseEndpoint = "the proxy of Neon does not know which database is meant: use the host name of its console as it is, not an IP address or an alias; or add options=endpoint%3DENDPOINT_ID to the address"
	adviseNeon     = "Neon has no such endpoint, or it is disabled: copy the address from the console again"
	adviseToken    = "the database refuses the token: IAM tokens expire after 15 minutes, so put a fresh one into the file that `database` names"
	adviseBouncer  = "the pooler has no such database or user: correct the address, or add them to its configuration (pgbouncer.ini)"
	adviseMode     = "the pooler takes no transactions: set pool_mode to transaction (or session), or use the direct address of the database"
	adviseUpstream = "the pooler cannot sign in to the database behind it: its log says why"
	adviseBinding  = "the address requires channel binding, which the server does not offer, or a pooler or proxy before it: remove channel_binding=require from the address"
	adviseNoTLS    = "the database server does not support TLS: add sslmode=disable to the address"
	adviseConnect  = "the role may not connect to the database: run GRANT CONNECT ON DATABASE, as its owner"
	adviseWritable = "no server of the address accepts writes: give the address of the primary"
)

// refusal is a text with which a connection is refused.
type refusal struct {
	says  string // in lower case
	class directories.Class
	text  string
}

// refusals are what servers, poolers and providers say when they refuse a
// connection. Their codes tell less: poolers answer most with 08P01 or XX000. The
// first that is found counts.
var refusals = []refusal{
	// Postgres
	{"no encryption", directories.Refused, adviseTLS},
	{"ssl off", directories.Refused, adviseTLS}, // before version 12
	{"pg_hba.conf", directories.Refused, adviseHosts},
	{"is not permitted to log in", directories.Refused, adviseLogin},
	{`database "`, directories.Refused, adviseDatabase}, // from a pooler; else the code says so
	{"does not exist", directories.Refused, adviseRole},
	// PgBouncer
	{"unsupported startup parameter", directories.Refused, adviseSettings},
	{"no such database", directories.Refused, adviseDatabase},
	{"no such user", directories.Refused, advisePassword},
	{"bouncer config error", directories.Refused, adviseBouncer},
	{"not allowed in statement pooling mode", directories.Refused, adviseMode},
	{"ssl required", directories.Refused, adviseTLS},
	{"tls connection required", directories.Refused, adviseTLS},
	{"server login", directories.Refused, adviseUpstream},
	{"no more connections allowed", directories.Down, adviseFull},
	{"query_wait_timeout", directories.Down, adviseFull},
	// Supabase
	{"tenant or user not found", directories.Refused, adviseTenant},
	{"tenant/user", directories.Refused, adviseTenant},
	{"no tenant identifier", directories.Refused, adviseTenant},
	{"max clients reached", directories.Down, adviseFull},
	{"max client connections reached", directories.Down, adviseFull},
	{"check out process from the pool", directories.Down, adviseFull},
	{"ssl connection is required", directories.Refused, adviseTLS}, // and Azure
	// Neon
	{"time quota", directories.Refused, adviseQuota},
	{"transfer quota", directories.Refused, adviseQuota},
	{"endpoint id is not specified", directories.Refused, adviseEndpoint},
	{"endpoint could not be found", directories.Refused, adviseNeon},
	{"endpoint has been disabled", directories.Refused, adviseNeon},
	{"connection is insecure", directories.Refused, adviseTLS},
	// RDS and RDS Proxy
	{"feature not supported: rds proxy", directories.Refused, adviseSettings},
	{"requires tls connections", directories.Refused, adviseTLS},
	{"pam authentication failed", directories.Refused, adviseToken},
	// any of them
	{"authentication failed", directories.Refused, advisePassword},
}

// failures are errors of pgx that have no type.
var failures = []refusal{
	{"channel binding required", directories.Refused, adviseBinding},
	{"server refused tls connection", directories.Down, adviseNoTLS},
	{"read only connection", directories.Standby, adviseWritable},
	{"server is in standby mode", directories.Standby, adviseWritable},
}

// find returns the refusal that a text says; nil if it says none.
func find(all []refusal, text string) *refusal {
	text = strings.ToLower(text)
	for i := range all {
		if strings.Contains(text, all[i].says) {
			return &all[i]
		}
	}
	return nil
}

// refusalOf returns the refusal that an error of the server says; nil if it says
// none. Texts of other classes may hold what somebody has sent.
func refusalOf(pg *pgconn.PgError) *refusal {
	if !slices.ContainsFunc([]string{"08", "0A", "28", "53", "57", "58", "XX"}, func(class string) bool { return strings.HasPrefix(pg.Code, class) }) {
		return nil
	}
	return find(refusals, pg.Message)
}

// refusesSettings reports whether the error of an attempt to connect is that a
// pooler refuses a setting of the session: PgBouncer, RDS Proxy, and others that
// know only some settings.
func refusesSettings(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	if pg.Code == "0A000" || pg.Code == "42704" {
		return true
	}
	r := refusalOf(pg)
	return r != nil && r.text == adviseSettings
}
