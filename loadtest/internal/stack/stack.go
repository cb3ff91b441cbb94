// Package stack is where what is written down for containers is tested: docker-compose.yml, the Dockerfiles of all that
// is shipped, and the scripts around them. It has no code of its own.
package stack
