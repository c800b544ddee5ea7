// Package stalesession is a Caddy module.
package stalesession
