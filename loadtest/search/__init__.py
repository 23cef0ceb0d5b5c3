"""The highest load that keeps a promise: `trial` judges a level, `find` chooses the next one."""
