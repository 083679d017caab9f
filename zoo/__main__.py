from zoo.commands import run

run()
