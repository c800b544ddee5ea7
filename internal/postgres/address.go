package postgres

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// known are the parameters of a connection URL that pgx or the server knows.
// All others, those of Prisma, node-postgres and poolers, are left out: the
// server would refuse the connection for them.
var known = []string{
	"host", "port", "dbname", "database", "user", "password",
	"sslmode", "sslcert", "sslkey", "sslrootcert", "sslpassword", "sslsni", "sslnegotiation", "sslcertmode",
	"target_session_attrs", "application_name", "connect_timeout", "channel_binding", "require_auth",
	"options", "timezone", "search_path", "statement_timeout", "lock_timeout", "client_encoding",
	"krbsrvname", "krbspn", "min_protocol_version", "max_protocol_version", "passfile",
}

// fromEnvironment are the settings that pgx would take from the PG* variables
// of Caddy's own environment, with what they are without any.
var fromEnvironment = map[string]string{
	"host": "", "port": "", "database": "", "user": "", "password": "", "passfile": "",
	"application_name": applicationName, "connect_timeout": strconv.Itoa(int(connectTimeout.Seconds())),
	"sslmode": "", "sslkey": "", "sslcert": "", "sslcertmode": "allow", "sslsni": "", "sslrootcert": "",
	"sslpassword": "", "sslnegotiation": "", "target_session_attrs": "any", "timezone": "", "options": "",
	"min_protocol_version": "", "max_protocol_version": "", "channel_binding": "", "require_auth": "",
}

// errDSN says no more, because what cannot be read may hold a password in any
// of its places.
var errDSN = errors.New("the database address cannot be read: it must be like postgres://user:password@host:5432/database, special characters in the password percent-encoded, or like host=… user=… dbname=…")

// address is a database address, read.
type address struct {
	settings map[string]string
	// schema is that of the users table, from Prisma's parameter.
	schema string
	// limit is the most connections there may be, 0 for no limit.
	limit int
	// pooled tells that a transaction pooler stands before the server, which
	// takes no settings for a session.
	pooled bool
}

// readAddress reads a connection URL or a keyword/value string, in the
// dialects of libpq, Prisma, node-postgres, SQLAlchemy and JDBC.
func readAddress(dsn string) (address, error) {
	dsn = strings.TrimSpace(dsn)
	if len(dsn) > 1 && (dsn[0] == '"' || dsn[0] == '\'') && dsn[len(dsn)-1] == dsn[0] {
		dsn = dsn[1 : len(dsn)-1] // as `docker run --env-file` passes it on
	}
	scheme, rest, isURL := strings.Cut(strings.TrimPrefix(dsn, "jdbc:"), "://")
	if !isURL || strings.ContainsAny(scheme, "= '") {
		settings, err := readKeywords(dsn)
		return address{settings: settings}, err
	}
	switch base, _, _ := strings.Cut(scheme, "+"); {
	case base == "prisma":
		return address{}, errors.New("the database address is one of Prisma's HTTP proxies: give the direct postgres:// address of the database")
	case base != "postgres" && base != "postgresql":
		return address{}, errDSN
	case scheme == "prisma+postgres":
		return address{}, errors.New("the database address is one of Prisma's HTTP proxies: give the direct postgres:// address of the database")
	}
	settings, err := readURL(rest)
	if err != nil {
		return address{}, err
	}
	return translate(settings)
}

// readURL reads what follows the scheme of a connection URL. It minds
// characters that should have been escaped less than libpq does.
func readURL(rest string) (map[string]string, error) {
	rest, query, _ := strings.Cut(rest, "?")
	settings := make(map[string]string)
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		settings["user"], settings["password"] = unescape(user), unescape(password)
		rest = rest[at+1:]
	}
	hosts, database, _ := strings.Cut(rest, "/")
	settings["database"] = unescape(database)
	var names, ports []string
	for host := range strings.SplitSeq(hosts, ",") {
		name, port := host, ""
		if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
			name, port = host[:i], host[i+1:]
		}
		names = append(names, strings.Trim(unescape(name), "[]"))
		ports = append(ports, port)
	}
	settings["host"], settings["port"] = strings.Join(names, ","), strings.Join(ports, ",")
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return nil, errDSN
	}
	for name, values := range parameters {
		if name == "dbname" {
			name = "database"
		}
		settings[name] = values[0]
	}
	return settings, nil
}

// unescape decodes percent escapes, and keeps a text whose escapes are
// malformed as it is.
func unescape(text string) string {
	if decoded, err := url.PathUnescape(text); err == nil {
		return decoded
	}
	return text
}

// readKeywords reads a keyword/value string.
func readKeywords(dsn string) (map[string]string, error) {
	settings := make(map[string]string)
	for dsn = strings.TrimLeft(dsn, " \t\r\n"); dsn != ""; dsn = strings.TrimLeft(dsn, " \t\r\n") {
		name, rest, found := strings.Cut(dsn, "=")
		name = strings.TrimSpace(name)
		if !found || name == "" || strings.ContainsAny(name, " \t\r\n'") {
			return nil, errDSN
		}
		value, rest, ok := keywordValue(strings.TrimLeft(rest, " \t\r\n"))
		if !ok {
			return nil, errDSN
		}
		if name == "dbname" {
			name = "database"
		}
		settings[name], dsn = value, rest
	}
	if len(settings) == 0 {
		return nil, errDSN
	}
	return settings, nil
}

// keywordValue reads a value, quoted or not, and returns what follows it.
func keywordValue(text string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(text, "'")
	if quoted {
		text = text[1:]
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case quoted && c == '\'':
			return b.String(), text[i+1:], true
		case !quoted && strings.IndexByte(" \t\r\n", c) >= 0:
			return b.String(), text[i:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", !quoted
}

// translate turns the parameters of Prisma and node-postgres into libpq's.
func translate(s map[string]string) (address, error) {
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
	if s["sslcert"] != "" && s["sslkey"] == "" { // Prisma's is the server's authority
		setDefault(s, "sslrootcert", s["sslcert"])
		delete(s, "sslcert")
	}
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

func setDefault(settings map[string]string, name, value string) {
	if settings[name] == "" {
		settings[name] = value
	}
}

// wholeSeconds reads a timeout such as 5 or 10s. None, 0 and what cannot be
// read is our own: an attempt has to end.
func wholeSeconds(text string) int {
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return seconds
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return max(1, int(d.Seconds()))
	}
	return int(connectTimeout.Seconds())
}

// poolConfig returns the configuration of a pool for the address.
func (a address) poolConfig() (*pgxpool.Config, error) {
	settings := make(map[string]string)
	for name, value := range fromEnvironment {
		settings[name] = value
	}
	for name, value := range a.settings {
		settings[name] = value
	}
	if os.Getenv("PGSERVICE") != "" {
		file, err := emptyService()
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(filepath.Dir(file))
		settings["service"], settings["servicefile"] = applicationName, file
	}
	var dsn strings.Builder
	for name, value := range settings {
		dsn.WriteString(name + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "' ")
	}
	config, err := pgxpool.ParseConfig(dsn.String())
	if err != nil {
		return nil, errors.New("the database address has a parameter with a value that it cannot have: check sslmode, the ports and the certificate files in it")
	}
	c := config.ConnConfig
	for name, value := range c.RuntimeParams {
		if value == "" {
			delete(c.RuntimeParams, name)
		}
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.MaxConns = maxConns
	if a.limit > 0 {
		config.MaxConns = int32(min(maxConns, a.limit))
	}
	config.MaxConnIdleTime = 5 * time.Minute
	config.MaxConnLifetime = 30 * time.Minute
	config.MaxConnLifetimeJitter = 5 * time.Minute
	config.PingTimeout = time.Second
	return config, nil
}

// emptyService makes a service file that sets nothing. Only by naming one can
// pgx be kept from the service that PGSERVICE names.
func emptyService() (string, error) {
	dir, err := os.MkdirTemp("", applicationName)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "service")
	return file, os.WriteFile(file, []byte("["+applicationName+"]\n"), 0o600)
}
