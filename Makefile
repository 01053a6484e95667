# Thin on purpose: every target is a script that can be called without make.
.PHONY: demo life test rig rig-down bench check fmt clean

demo:
	scripts/demo

life:
	scripts/life

test:
	scripts/test

rig:
	scripts/rig up

rig-down:
	scripts/rig down

bench:
	scripts/bench

check:
	scripts/gates cheap

fmt:
	scripts/fmt

clean: rig-down
	rm -rf build
